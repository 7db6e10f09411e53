"""One module a user action: project path and parameters in, result out."""
