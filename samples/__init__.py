"""Sample rooms and scripts, and the programs that make them. Not part of the installed package."""
