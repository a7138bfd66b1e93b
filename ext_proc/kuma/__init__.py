"""Kuma's side of tbms: its policies, and what a control plane makes of them."""
