"""Stop-loss and take-profit orders of positions: placed, taken down, and watched over."""
