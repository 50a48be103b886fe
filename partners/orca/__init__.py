"""The partner that is a receipt computer: ORCA (日医標準レセプトソフト) and WebORCA."""
