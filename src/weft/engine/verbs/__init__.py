"""What programs and the API ask of a running node: one file per group of verbs."""
