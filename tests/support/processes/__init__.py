"""The product as processes: started, watched at a terminal, in directories of their own, and by the thousand."""
