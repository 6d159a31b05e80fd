"""What was made, from what and on what: manifest, verification, report, bundle."""
