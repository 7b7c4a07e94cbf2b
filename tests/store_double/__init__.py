"""The store double against the vendor's page, against what is known of the live API, and against its own promises."""
