"""From files to :class:`fusecut.ir.Graph`.

``frontend.onnx`` is the way in. The rest are its steps, in the order a file meets them: ``source``
(bytes to sorted nodes), ``shapes`` and ``constants`` (every tensor's shape), ``layout`` (which axis
is rows), ``lower*`` (nodes to ops), ``normalise`` (lossless folding).

Nothing here imports the ``onnx`` package until a file is loaded.
"""
