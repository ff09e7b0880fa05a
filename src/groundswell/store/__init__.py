"""The control store: definitions and their versions, keys, the audit trail, imports, published scorecards."""
