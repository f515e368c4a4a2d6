"""Live trading: orders, protection, account settings and the account's own record."""
