"""Sending a notice through apprise: Slack, Teams, mail, a webhook and some hundred others, by one address each."""

from __future__ import annotations

import logging

import apprise

_PATIENCE = 30.0
"""Seconds for an answer: whoever takes a notice and is not waited for is told it again."""


class AddressError(ValueError):
    """The address is none that apprise knows; the message quotes nothing of it."""

    def __init__(self) -> None:
        super().__init__(
            "This is no address that notices can go to: write one as apprise has it, such as slack://..., "
            "mailtos://..., or jsons://host/path for a webhook"
        )


def checked_address(text: str) -> str:
    """The address without white space around it. AddressError if nothing can be sent there."""
    address = text.strip()
    if not _sender(address):
        raise AddressError
    return address


def deliver(address: str, title: str, body: str) -> bool:
    """Whether it got through. Nothing of the address is logged. AddressError if it is none."""
    sender = _sender(address)
    if sender is None:
        raise AddressError
    return bool(sender.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))


def _sender(address: str) -> apprise.Apprise | None:
    """None: it is no address."""
    for name in ("apprise", "urllib3"):  # they log addresses, and what the other side answered
        logging.getLogger(name).setLevel(logging.CRITICAL)
    sender = apprise.Apprise()
    if not address or not sender.add(address) or len(sender) != 1:
        return None
    for each in sender:
        if each.socket_read_timeout == type(each).socket_read_timeout:  # the address does not say another one (rto)
            each.socket_read_timeout = max(each.socket_read_timeout, _PATIENCE)
    return sender
