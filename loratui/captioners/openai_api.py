"""A server of the user's own that speaks OpenAI's chat API: vLLM, llama.cpp, Ollama.

Pictures are sent to the address in the options and nowhere else; without one nothing is sent. Redirects are
not followed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import time
import urllib.error
import urllib.request
from typing import Any

from PIL import Image

from loratui.captioners.protocol import Said, Source, Tag
from loratui.captioners.spec import ApiOptions
from loratui.errors import ConfigError, JobError

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_REFUSED = frozenset({401, 403, 404})
_LARGEST_ANSWER = 1 << 20


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A server that sends us elsewhere does not get the picture sent there."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Refuse."""


class OpenAiApi:
    """One server."""

    first_batch = 1

    def __init__(self, options: ApiOptions) -> None:
        self.options = options
        self._opener = urllib.request.build_opener(_NoRedirects)
        self._wait_s = 0.5

    def prepare(self, image: Image.Image) -> str:
        """The picture as a data URL: JPEG, its longer side at most `max_side` px."""
        side = max(image.size)
        if side > self.options.max_side:
            factor = self.options.max_side / side
            size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=92)
        return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

    def caption(self, prepared: list[str]) -> list[Said]:
        """One answer for each picture."""
        return [self._one(url) for url in prepared]

    def _one(self, url: str) -> Said:
        options = self.options
        content = [
            {"type": "text", "text": options.instruction},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if options.system:
            messages.insert(0, {"role": "system", "content": options.system})
        body = {
            "model": options.model,
            "messages": messages,
            "max_tokens": options.max_new_tokens,
            "temperature": options.temperature,
        }
        answer = self._ask(body)
        if isinstance(answer, Said):
            return answer
        try:
            text = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str):
            return Said(error="the server's answer holds no text")
        if options.kind == "tags":
            parts = text.replace("\n", ",").split(",")
            return Said(tags=tuple(Tag(p.strip()) for p in parts if p.strip()))
        return Said(text)

    def _ask(self, body: dict[str, Any]) -> Any:
        """The answer as JSON, or a `Said` with why this picture was refused.

        Raises:
            JobError: the server cannot be reached, or refuses us altogether.
        """
        address = self.options.endpoint.rstrip("/") + "/chat/completions"
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.options.key_env:
            headers["Authorization"] = f"Bearer {os.environ.get(self.options.key_env, '')}"
        data = json.dumps(body).encode("utf-8")
        for attempt in range(self.options.retries + 1):
            last = attempt == self.options.retries
            try:
                request = urllib.request.Request(address, data, headers, method="POST")
                with self._opener.open(request, timeout=self.options.timeout_s) as reply:
                    return json.loads(reply.read(_LARGEST_ANSWER))
            except urllib.error.HTTPError as error:
                why = f"the server answered {error.code} {error.reason}"
                if error.code in _REFUSED or 300 <= error.code < 400:
                    raise JobError(f"{address}: {why}.", "Check endpoint, model and key_env.") from error
                if error.code not in _AGAIN:
                    return Said(error=why)
                if last:
                    raise JobError(
                        f"{address}: {why}.", "Look at the server's log, then resume the run."
                    ) from error
            except (OSError, TimeoutError) as error:
                if last:
                    why = str(getattr(error, "reason", None) or error)
                    raise JobError(
                        f"{address} cannot be reached: {why}.", "Start the server, then resume the run."
                    ) from error
            except ValueError:
                return Said(error="the server's answer is no JSON")
            time.sleep(self._wait_s * 2**attempt)
        raise AssertionError

    def free(self) -> None:
        """Nothing is held."""


def load(options: ApiOptions, source: Source) -> OpenAiApi:
    """Make ready to ask.

    Raises:
        ConfigError: no server is named.
    """
    if not options.endpoint:
        raise ConfigError("No server is named.", "Set endpoint to the address of your own server.")
    return OpenAiApi(options)
