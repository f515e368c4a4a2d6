"""What looks at a running product or talks to it: signals, books, the records of a venue, events of actors."""
