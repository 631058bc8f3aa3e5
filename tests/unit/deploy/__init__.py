"""The files in which others run Voltgate say what the code does."""
