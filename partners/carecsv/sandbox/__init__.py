"""A care manager's office that sends files of made-up clients."""

from partners.carecsv.sandbox.office import CareOffice

__all__ = ["CareOffice"]
