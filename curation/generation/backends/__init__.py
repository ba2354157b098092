"""The table of backends: a new one is a file here, a line here, and its test."""

from curation.generation.backends.function import FunctionBackend
from curation.generation.backends.openai_server import OpenAiServer

BACKENDS = {
    "openai": OpenAiServer,
    "function": FunctionBackend,
}
