"""The same Kaelum over a scripted model as the graph tests use."""

from tests.graphs.conftest import encoder, make_kaelum, no_audits, sandbox

__all__ = ["encoder", "make_kaelum", "no_audits", "sandbox"]
