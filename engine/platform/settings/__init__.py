"""Every setting of the product and the checks of its value."""
