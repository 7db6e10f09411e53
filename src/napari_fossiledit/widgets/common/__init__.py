"""Forms, tables, jobs and messages that every dock uses."""
