"""The simulated basin: weather and water balance."""
