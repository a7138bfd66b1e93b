"""Headers for clients that want to say their time limit and backups: `tbms_try`, `tbms_mix_try`, `read_answer`.

Optional: any client may write the headers itself, or none. Needs http-sfv and nothing of the server's dependencies, so
that `pip install --no-deps tbms http-sfv` is enough. docs/clients.md shows it with each client.
"""

from ext_proc.client.answer import TbmsAnswer, read_answer
from ext_proc.client.calls import CallHeaders, ClientError, Mix, Model, tbms_mix_try, tbms_try

__all__ = ["CallHeaders", "ClientError", "Mix", "Model", "TbmsAnswer", "read_answer", "tbms_mix_try", "tbms_try"]
