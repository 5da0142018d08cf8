"""What happens, as it happens: rows and reorganisations behind a position, and the streams that carry them."""
