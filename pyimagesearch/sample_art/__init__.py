"""The artwork of the built-in sample: a brush, the table, and the eleven kinds of food."""
