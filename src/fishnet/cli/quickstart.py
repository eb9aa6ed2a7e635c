"""``fishnet quickstart``."""

from pathlib import Path

SHOWN = 12


def quickstart(*, out: Path = Path("quickstart"), epochs: int | None = None, quiet: bool = False) -> None:
    """Train, evaluate and use a small FishNet on Fashion-MNIST, in minutes on two cores.

    Trains with the recipe `quickstart`, evaluates on all 10,000 test images, predicts some of them, and prints where
    everything is. If the folder exists, a new one is created beside it.

    Parameters
    ----------
    out
        Folder for all files.
    epochs
        Number of epochs. Default: the recipe's.
    quiet
        Show no progress bars.
    """
    import time

    from fishnet.cli.progress import bar
    from fishnet.data.classification.samples import FASHION_MNIST, FashionMNIST
    from fishnet.evaluation.evaluate import Evaluation, evaluate
    from fishnet.prediction.drawing import sheet
    from fishnet.recipes.loading import load_recipe
    from fishnet.tasks.loading import load
    from fishnet.training.fit import fit

    out = _free(out)
    recipe = load_recipe("classify", "quickstart", {} if epochs is None else {"epochs": epochs})
    print(f"1/3 training on {FASHION_MNIST} ...")
    start = time.monotonic()
    fitted = fit("classify", FASHION_MNIST, recipe, out / "classify", quiet=quiet)
    seconds = time.monotonic() - start

    print(f"    trained in {seconds:.0f} s\n2/3 evaluating on the test photos ...")
    predictor = load(fitted.bundle)
    with bar("    evaluating", show=not quiet) as step:
        result = evaluate(predictor, FASHION_MNIST, split="test", progress=step)
    assert isinstance(result, Evaluation)

    print("3/3 predicting some test photos ...")
    test = FashionMNIST(train=False)
    photos, overlays = out / "photos", out / "overlays"
    photos.mkdir()
    overlays.mkdir()
    drawn = []
    for i in range(SHOWN):
        image, label = test.read(i)
        file = photos / f"{i:02d}-{test.classes.names[label].lower().replace('/', '-').replace(' ', '-')}.png"
        image.save(file)
        prediction = predictor.predict(file)
        drawn.append(prediction.draw(image))
        drawn[-1].save(overlays / file.name)
        best = prediction.rows()[0]
        print(f"    {file.name:<22} -> {best['name']} {100 * best['score']:.1f} %")
    sheet(drawn).save(out / "overlays.png")

    metrics = "  ".join(f"{name} {value:.2f} %" for name, value in result.metrics.items())
    print(
        f"\n{metrics} on {result.images:,} test photos, after {seconds:.0f} s of training\n"
        f"bundle    {fitted.bundle}\ncurves    {fitted.curves}\nimages    {out / 'overlays.png'} (each in {overlays})\n"
        f"next      fishnet predict {fitted.bundle} YOUR_IMAGE, fishnet train classify YOUR_FOLDER"
    )


def _free(folder: Path) -> Path:
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free
