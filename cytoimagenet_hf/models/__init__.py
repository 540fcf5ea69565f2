"""Networks that make features of images, by name, and weights of others in our form."""
