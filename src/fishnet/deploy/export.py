"""From a bundle to an exported file that was seen to agree with it."""

from fishnet.deploy.graphs import write_onnx, write_openvino, write_pt2

__all__ = ["write_onnx", "write_openvino", "write_pt2"]
