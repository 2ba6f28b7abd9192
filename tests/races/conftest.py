"""The small cache of the cache's own tests."""

from tests.cache.conftest import lake as lake
from tests.cache.conftest import rig as rig
