"""What exists: one declaration file per system, and the catalog that collects them."""
