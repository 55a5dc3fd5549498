"""All models of the zoo."""

from __future__ import annotations

from tests.zoo.bert import bert
from tests.zoo.diffusion import diffusion
from tests.zoo.flow import flow
from tests.zoo.gnn import gnn
from tests.zoo.gpt import gpt, gpt_with_state
from tests.zoo.physics import physics
from tests.zoo.resnet import resnet
from tests.zoo.seq2seq import gru_seq2seq, lstm_seq2seq
from tests.zoo.unet import unet
from tests.zoo.vae import vae
from tests.zoo.vit import vit

MAKERS = (
    resnet,
    vit,
    unet,
    bert,
    gpt,
    gpt_with_state,
    lstm_seq2seq,
    gru_seq2seq,
    vae,
    flow,
    diffusion,
    gnn,
    physics,
)
