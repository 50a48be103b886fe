"""What every connector must do, tried with any partner: `certificate.certify` runs the rows on a partner's bench."""
