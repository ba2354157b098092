"""The table of backends: a new one is a file here, a line here, and its test."""

from curation.generation.backends.coca import CocaBackend
from curation.generation.backends.function import FunctionBackend
from curation.generation.backends.openai_server import OpenAiServer
from curation.generation.backends.template import TemplateBackend
from curation.generation.backends.vllm import VllmBackend

BACKENDS = {
    "openai": OpenAiServer,
    "vllm": VllmBackend,
    "coca": CocaBackend,
    "function": FunctionBackend,
    "template": TemplateBackend,
}
