"""Parameter models of all operations: one drives the form, the command line and the record."""
