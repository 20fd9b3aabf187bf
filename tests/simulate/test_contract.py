"""Our own models under the suite that others get."""

from __future__ import annotations

from fusecut.cost import CostModel
from fusecut.models import Brr, Layerwise, LineBuffer, WithFallback, scheme_model
from fusecut.testing import CostModelContract


class TestLineBuffer(CostModelContract):
    def model(self) -> CostModel:
        return LineBuffer()


class TestTwoPass(CostModelContract):
    def model(self) -> CostModel:
        return LineBuffer(squeeze_excite="two_pass")


class TestLayerwise(CostModelContract):
    def model(self) -> CostModel:
        return Layerwise()


class TestFallback(CostModelContract):
    def model(self) -> CostModel:
        return WithFallback(LineBuffer(prefetch_rows=1), Layerwise())


class TestBrr(CostModelContract):
    def model(self) -> CostModel:
        return Brr()


class TestBrrOverTwoPasses(CostModelContract):
    networks = 6

    def model(self) -> CostModel:
        return Brr(LineBuffer(squeeze_excite="two_pass"), channels=2)


class TestMixed(CostModelContract):
    def model(self) -> CostModel:
        return scheme_model("mixed")
