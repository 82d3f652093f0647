"""Where task records come from: the plain bus, or Faust."""
