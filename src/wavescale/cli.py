"""The command line: every command parses, calls one function and prints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from wavescale import __version__
from wavescale.errors import WavescaleError

app = typer.Typer(
    name="wavescale",
    help="Pretrained transformers in the size that you need: wider, narrower, deeper, shallower, without training.",
    epilog="A folder or a hub id goes in, a folder that from_pretrained loads comes out. Start with: wavescale demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_SIZES, _CHOICES, _RUNNING = "Sizes", "Choices", "Running"

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A local folder or a hub id; for plan also a config.json.", show_default=False
    ),
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write.", show_default=False)]
HiddenSize = Annotated[
    int | None, typer.Option("--hidden-size", help="Width of the residual stream.", rich_help_panel=_SIZES)
]
Layers = Annotated[
    int | None, typer.Option("--layers", "--num-hidden-layers", help="Number of layers.", rich_help_panel=_SIZES)
]
Heads = Annotated[
    int | None,
    typer.Option("--heads", "--num-attention-heads", help="Attention (query) heads.", rich_help_panel=_SIZES),
]
KvHeads = Annotated[
    int | None, typer.Option("--kv-heads", "--num-key-value-heads", help="Key-value heads.", rich_help_panel=_SIZES)
]
Intermediate = Annotated[
    int | None, typer.Option("--intermediate-size", help="Units of the feed-forward layer.", rich_help_panel=_SIZES)
]
Like = Annotated[
    str | None,
    typer.Option(
        "--like", metavar="CONFIG", help="Take the sizes of this model or config.json.", rich_help_panel=_SIZES
    ),
]
ScaleWidth = Annotated[
    str | None,
    typer.Option(
        "--scale-width",
        metavar="X",
        help="Factor on width, heads and units, such as 1.5 or 2/3.",
        rich_help_panel=_SIZES,
    ),
]
ScaleDepth = Annotated[
    str | None, typer.Option("--scale-depth", metavar="X", help="Factor on layers.", rich_help_panel=_SIZES)
]
Preset = Annotated[
    str,
    typer.Option(
        "--method",
        "--preset",
        metavar="NAME",
        help="default, paper (BoT), weight-selection, hypercloning, bert2bert-fpi, bert2bert-aki, stack, "
        "interleave, llama-pro, front-dct, front-dct-corrected, ligo, mango or random.",
        rich_help_panel=_CHOICES,
    ),
]
Width = Annotated[
    str | None,
    typer.Option(
        "--width",
        help="replicate (copies), tile (copies of whole axes), pad (what is new writes nothing yet), signal (wavelet), "
        "select (evenly spaced), norm (largest weights), merge (similar ones together), fpi, aki (bert2BERT) or dct "
        "(cosines).",
        rich_help_panel=_CHOICES,
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        "--order",
        help="none, similarity or matching: similar units side by side before signal averages them.",
        rich_help_panel=_CHOICES,
    ),
]
Depth = Annotated[
    str | None,
    typer.Option(
        "--depth",
        help="insert, stack, interleave, repeat, signal (wavelet), dct (cosines), first (the first layers) or drop "
        "(evenly spaced).",
        rich_help_panel=_CHOICES,
    ),
]
LayerMap = Annotated[
    str | None,
    typer.Option(
        "--layer-map", metavar="0,2,4", help="Source layer, from 0, that each layer copies.", rich_help_panel=_CHOICES
    ),
]
Wavelet = Annotated[
    str | None,
    typer.Option(
        "--wavelet",
        metavar="NAME",
        help="Any discrete wavelet of PyWavelets, where signal is at work.",
        rich_help_panel=_CHOICES,
    ),
]
Gain = Annotated[
    str | None,
    typer.Option("--gain", help="role, orthonormal, variance or unnormalized (dct).", rich_help_panel=_CHOICES),
]
DetailsOption = Annotated[
    str | None,
    typer.Option(
        "--details",
        help="How copies share weights: antisymmetric (unequally, so that twins part) or zero (equally).",
        rich_help_panel=_CHOICES,
    ),
]
DetailSize = Annotated[
    float | None,
    typer.Option(
        "--detail-size",
        help="How unequal shares are; by default 1, each weight whole to one of two copies.",
        rich_help_panel=_CHOICES,
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of seeded noise.", rich_help_panel=_CHOICES)]
Calibrate = Annotated[
    str | None,
    typer.Option(
        "--calibrate",
        metavar="FILE",
        help="What a smaller model is fitted on: a text, a folder of images, generated (text that it writes itself), "
        "random, or none; by default generated or random, and none above a billion parameters.",
        rich_help_panel=_CHOICES,
    ),
]
TrainSteps = Annotated[
    int | None,
    typer.Option(
        "--train-steps", help="Steps that ligo and mango are trained for; by default 100.", rich_help_panel=_CHOICES
    ),
]
TrainRate = Annotated[
    float | None,
    typer.Option("--train-rate", help="Their highest learning rate; by default 0.003.", rich_help_panel=_CHOICES),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype", help="float64, float32, bfloat16 or float16; by default as stored.", rich_help_panel=_RUNNING
    ),
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        metavar="CLASS",
        help="Class, where config.json names none.",
        rich_help_panel=_RUNNING,
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option(
        "--drop",
        metavar="PATTERN",
        help="Tensors to leave out, such as 'v_head.*'; may be given several times.",
        rich_help_panel=_RUNNING,
    ),
]
Device = Annotated[str, typer.Option("--device", help="Where to compute.", rich_help_panel=_RUNNING)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print every tensor.")]

# Parameters that `resize` and `plan` hand on as they are.
_SIZING = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size",
    "scale_width", "scale_depth", "like", "preset", "width", "order", "depth", "layer_map", "wavelet", "gain",
    "details", "detail_size", "seed", "calibrate", "train_steps", "train_rate", "dtype", "architecture", "drop",
)  # fmt: skip


def _sizing(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: parameters[name] for name in _SIZING if parameters[name] is not None}


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"wavescale {__version__}")
        raise typer.Exit


@app.command(
    "resize",
    epilog="Examples:  wavescale resize HuggingFaceTB/SmolLM2-135M bigger --scale-width 2  |  "
    "wavescale resize ./bert small --hidden-size 192 --layers 3  |  wavescale resize ./m out --like other/config.json",
)
def resize_command(
    model: Model,
    out: Out,
    hidden_size: HiddenSize = None,
    num_hidden_layers: Layers = None,
    num_attention_heads: Heads = None,
    num_key_value_heads: KvHeads = None,
    intermediate_size: Intermediate = None,
    like: Like = None,
    scale_width: ScaleWidth = None,
    scale_depth: ScaleDepth = None,
    preset: Preset = "default",
    width: Width = None,
    order: Order = None,
    depth: Depth = None,
    layer_map: LayerMap = None,
    wavelet: Wavelet = None,
    gain: Gain = None,
    details: DetailsOption = None,
    detail_size: DetailSize = None,
    seed: Seed = 0,
    calibrate: Calibrate = None,
    train_steps: TrainSteps = None,
    train_rate: TrainRate = None,
    dtype: Dtype = None,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", help="Size of one file of weights.", rich_help_panel=_RUNNING)
    ] = "5GB",
    device: Device = "cpu",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing output.", rich_help_panel=_RUNNING)
    ] = False,
    optimizer_state: Annotated[
        Path | None,
        typer.Option(
            "--optimizer-state",
            metavar="FILE",
            help="Resize AdamW's moments as well: a Trainer checkpoint, or its optimizer.pt.",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    train_file: Annotated[
        str | None,
        typer.Option(
            "--train-file",
            metavar="FILE",
            help="What ligo and mango are trained on: a text, or a folder of images.",
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    architecture: Architecture = None,
    drop: Drop = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write MODEL in another size."""
    options = _sizing(locals())
    from wavescale.on_disk import resize_checkpoint
    from wavescale.plan import Plan, TensorPlan
    from wavescale.progress import tensor_progress
    from wavescale.ranks import launched

    with launched() as ranks, tensor_progress(quiet or not ranks.first) as progress:

        def on_plan(plan: Plan) -> None:
            if not quiet:
                _print_plan(plan, verbose, tensors=verbose)
            progress.start(ranks.share(plan.tensors))

        def on_tensor(tensor: TensorPlan) -> None:
            progress.advance(tensor)

        resize_checkpoint(
            model, out, max_shard_size=max_shard_size, device=device, overwrite=overwrite,
            optimizer_state=optimizer_state, train_file=train_file, ranks=ranks, on_plan=on_plan,
            on_tensor=on_tensor if ranks.first else None, **options,
        )  # fmt: skip
    if not quiet and ranks.first:
        typer.echo(f"written: {out}")


@app.command(
    "plan",
    epilog="Examples:  wavescale plan ./llama --scale-width 1.5  |  "
    "wavescale plan config.json --layers 48 --json > plan.json",
)
def plan_command(
    model: Model,
    hidden_size: HiddenSize = None,
    num_hidden_layers: Layers = None,
    num_attention_heads: Heads = None,
    num_key_value_heads: KvHeads = None,
    intermediate_size: Intermediate = None,
    like: Like = None,
    scale_width: ScaleWidth = None,
    scale_depth: ScaleDepth = None,
    preset: Preset = "default",
    width: Width = None,
    order: Order = None,
    depth: Depth = None,
    layer_map: LayerMap = None,
    wavelet: Wavelet = None,
    gain: Gain = None,
    details: DetailsOption = None,
    detail_size: DetailSize = None,
    seed: Seed = 0,
    calibrate: Calibrate = None,
    train_steps: TrainSteps = None,
    train_rate: TrainRate = None,
    dtype: Dtype = None,
    architecture: Architecture = None,
    drop: Drop = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole plan as JSON.")] = False,
    verbose: Verbose = False,
) -> None:
    """Say what would happen, tensor by tensor."""
    options = _sizing(locals())
    from wavescale.resizing import plan_resize

    plan = plan_resize(model, **options)
    if as_json:
        typer.echo(plan.to_json())
    else:
        _print_plan(plan, verbose, tensors=True)


def _print_plan(plan: Any, every: bool, tensors: bool) -> None:
    for line in plan.lines(tensors=tensors, every=every):
        typer.echo(line)


@app.command("inspect", epilog="Example:  wavescale inspect ./bert --wavelet db2 --plot spectrum.png")
def inspect_command(
    model: Model,
    wavelet: Annotated[
        str, typer.Option("--wavelet", metavar="NAME", help="An orthogonal wavelet of PyWavelets.")
    ] = "haar",
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw it as well.")] = None,
    architecture: Architecture = None,
) -> None:
    """Show where the weights keep their energy."""
    from wavescale.spectrum import check_picture, inspect

    if plot is not None:
        check_picture(plot)
    spectrum = inspect(model, wavelet, architecture)
    typer.echo(str(spectrum))
    if plot is not None:
        spectrum.plot(plot)
        typer.echo(f"written: {plot}")


@app.command("verify", epilog="Example:  wavescale verify ./bert bigger --text sentences.txt")
def verify_command(
    model: Model,
    out: Annotated[str, typer.Argument(metavar="OUT", help="What wavescale resize wrote.", show_default=False)],
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            metavar="FILE",
            help="Measure the loss of both on this text; encoders without a head compare its lines.",
        ),
    ] = None,
    device: Device = "cpu",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 unless the function is kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
) -> None:
    """Compare a resized model with its source."""
    from wavescale.verification import verify

    found = verify(model, out, text, device)
    typer.echo(found.to_json() if as_json else str(found))
    if strict and not found.kept:
        raise typer.Exit(1)


@app.command("demo", epilog="Example:  wavescale demo --out somewhere")
def demo_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the two models; those of an earlier demo are replaced.")
    ] = Path("wavescale-demo"),
) -> None:
    """Grow and shrink a real BERT, and verify both."""
    from wavescale.demo import demo

    demo(out)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for unusable input, 1 for a fault."""
    try:
        app(arguments)
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else 0
    except WavescaleError as error:
        from wavescale.ranks import world_size

        if world_size() == "1" or os.environ.get("RANK", "0") == "0":  # all ranks that torchrun started raise the same
            typer.echo(f"error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        typer.echo(f"error: {error.filename or 'the machine'}: {error.strerror or error}", err=True)
        return 1
    return 0
