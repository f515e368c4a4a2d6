"""From a signal to booked fills: plan, orders, books."""
