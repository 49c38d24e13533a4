import pytest

from shared.errors import UserError
from shared.registry import Registry


def test_registry_lists_what_there_is_and_names_the_nearest():
    registry = Registry("method")
    registry.add("road", 1)
    registry.add("plca", 2)
    assert registry.get("road") == 1
    with pytest.raises(UserError, match=r"'raod': did you mean 'road'\? .*plca, road"):
        registry.get("raod")
    with pytest.raises(KeyError, match="registered twice"):
        registry.add("road", 3)
