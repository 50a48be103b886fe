"""`python -m zest_pipelines.cli`: how the demo starts commands of its own interpreter."""

from zest_pipelines.cli import main

main()
