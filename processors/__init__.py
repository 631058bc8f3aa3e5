"""Read journals, compute, write stores."""
