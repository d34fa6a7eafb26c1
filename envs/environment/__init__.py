"""Gymnasium's and Stable-Baselines3's side of the world."""
