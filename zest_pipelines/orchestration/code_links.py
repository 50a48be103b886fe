"""Where each asset is made, as a link in the UI: the local file, or its page in a repository where one is named."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from dagster import (
    AssetsDefinition,
    AssetSpec,
    BetaWarning,
    CodeReferencesMetadataValue,
    LocalFileCodeReference,
    UrlCodeReference,
    with_source_code_references,
)

_PROJECT = Path(__file__).resolve().parents[2]
_KEY = "dagster/code_references"


def with_code_links(assets: Sequence[AssetsDefinition], url: str | None) -> list[AssetsDefinition]:
    """The assets, each with a link to the function that makes it.

    `url` is the project's folder in a repository's web pages, such as `https://git.example/zest-pipelines/blob/main`;
    None: the links are to local files.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BetaWarning)
        linked = [each for each in with_source_code_references(assets) if isinstance(each, AssetsDefinition)]
        return linked if url is None else [each.map_asset_specs(lambda spec: _published(spec, url)) for each in linked]


def _published(spec: AssetSpec, url: str) -> AssetSpec:
    value = spec.metadata[_KEY]
    assert isinstance(value, CodeReferencesMetadataValue)  # just put there
    pages = [_page(each, url) for each in value.code_references if isinstance(each, LocalFileCodeReference)]
    return spec.replace_attributes(
        metadata={**spec.metadata, _KEY: CodeReferencesMetadataValue(code_references=[*pages])}
    )


def _page(reference: LocalFileCodeReference, url: str) -> UrlCodeReference:
    path = Path(reference.file_path).relative_to(_PROJECT).as_posix()
    return UrlCodeReference(url=f"{url.rstrip('/')}/{path}#L{reference.line_number}")
