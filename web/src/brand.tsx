/** The name of the product, as it stands above the form and above the views. */
export function Brand() {
  return (
    <span className="brand">
      <img src="./favicon.svg" alt="" width="28" height="28" />
      Ollagraph
    </span>
  );
}
