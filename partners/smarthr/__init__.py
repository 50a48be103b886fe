"""SmartHR: an HR system, from which staff comes in."""
