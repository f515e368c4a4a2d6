"""What the `sparky` command is made of: composition, preparation, status, doctor, and the commands for people."""
