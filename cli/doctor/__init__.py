"""`sparky doctor`: checks of the installation, with a remedy for each fault."""
