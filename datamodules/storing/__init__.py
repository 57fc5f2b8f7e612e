"""Data sets written to disk: conversion to the house store, downloads."""
