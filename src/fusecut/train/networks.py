"""Which networks teach, which are kept aside, and which are alike."""

from __future__ import annotations

from typing import Final

from fusecut.errors import FusecutError, UnknownNameError
from fusecut.zoo import names

FAMILIES: Final[dict[str, tuple[str, ...]]] = {
    "classic": ("alexnet", "vgg16"),
    "densenet": ("densenet121",),
    "efficientnet": ("efficientnet_b0", "efficientnet_b3"),
    "googlenet": ("googlenet",),
    "hrnet": ("hrnet_w18",),
    "mobilenet": ("mnasnet1_0", "mobilenet_v1", "mobilenet_v2"),
    "mobilenet_v3": ("mobilenet_v3_large", "mobilenet_v3_small"),
    "resnet": ("resnet101", "resnet18", "resnet50"),
    "shufflenet": ("shufflenet_v2_x1_0",),
    "squeezenet": ("squeezenet1_0", "squeezenet1_1"),
    "upscaling": ("fsrcnn", "unet"),
    "convnext": ("convnext_tiny",),
}
"""The networks that teach, by family: those that share building blocks."""

TEACHERS: Final = tuple(sorted(name for family in FAMILIES.values() for name in family))

UNSEEN: Final = ("deeplabv3plus_mobilenet_v3_large", "nasnetalarge", "resnet152")
"""Kept aside for judging: two networks of the paper that it did not train on either, and a family of its own."""


def family_of(name: str) -> str:
    """The family of a teacher."""
    return next(family for family, members in FAMILIES.items() if name in members)


def chosen(asked: tuple[str, ...], without: tuple[str, ...]) -> tuple[str, ...]:
    """The networks asked for (none: all teachers), sorted, without some; families may be named in both.

    Raises:
        UnknownNameError: neither a network of the zoo nor a family.
        FusecutError: none is left.
    """
    left = sorted(set(_spelled_out(asked) or TEACHERS) - set(_spelled_out(without)))
    if not left:
        raise FusecutError("no network is left to learn from: name some, or leave fewer out")
    return tuple(left)


def _spelled_out(asked: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for name in asked:
        if name not in FAMILIES and name not in names():
            raise UnknownNameError("network or family", name, {*FAMILIES, *names()})
        found += FAMILIES.get(name, (name,))
    return found
