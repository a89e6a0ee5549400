"""What identifies a text in a case: content, not places."""

from pydantic import Field

from suites.records.record import Model


class Text(Model):
    """A tokenised corpus, identified by content: the same digests are the same tokens."""

    source: str = Field(description="'stdlib', 'hub:NAME@REVISION', or names of local files")
    tokenizer: str = Field(description="'bytes', or the name of a SentencePiece file")
    tokenizer_sha256: str | None = Field(description="None for bytes")
    sha256: str = Field(description="of the token cache, training and validation together")


class Evaluation(Model):
    """A text other than the corpus that the trained model is evaluated on, identified by content."""

    name: str = Field(description="of the set in `suites.text.evaluations.SETS`")
    source: str = Field(description="name of a local file, or of a hub file at its revision")
    sha256: str = Field(description="of its tokens and document ends")
