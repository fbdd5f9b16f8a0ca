"""Reporting: statistics, tables, figures and the HTML page, from records."""
