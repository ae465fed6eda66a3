// What is shown, and how: elements, money, times, words for states. Nothing here asks the engine.

export const byId = (id) => document.getElementById(id);

/** An element with this class and these children; texts are texts, never markup. */
export const make = (name, className, ...children) => {
  const element = document.createElement(name);
  if (className) element.className = className;
  element.append(...children.filter((child) => child !== undefined && child !== null));
  return element;
};

export const setText = (id, text) => {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
};

export const show = (id, visible) => {
  byId(id).hidden = !visible;
};

/** Tells those who do not see the page what came of a click. */
export const say = (text) => setText("say", text);

/** Says above everything that something is wrong; an empty text takes it away. */
export const warn = (text) => {
  setText("notice", text);
  show("notice", text !== "");
};

export const number = (value) => value.toLocaleString("en-GB");

export const money = ({ amount, currency }) =>
  new Intl.NumberFormat("en-GB", { style: "currency", currency }).format(amount / 100);

/** Minutes and seconds that are left, rounded up: 0:00 is over. */
export const clock = (left_ms) => {
  const seconds = Math.max(0, Math.ceil(left_ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
};

export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** How full a bar is, from 0 to 1. */
export const fill = (id, share) => {
  byId(id).style.transform = `scaleX(${Math.min(1, Math.max(0, share))})`;
};

export const STOCK = { in_stock: "in stock", low_stock: "nearly gone", sold_out: "sold out", backorder: "on backorder" };

export const ORDER = {
  pending_payment: "payment open",
  paid: "paid",
  fulfilled: "sent",
  completed: "completed",
  cancelled: "cancelled",
  partially_refunded: "partly refunded",
  refunded: "refunded",
};

/** Steps of an order in a shopper's words; others are told by their own names. */
export const STEP = {
  started: "checkout began",
  units_reserved: "unit held",
  units_refused: "no unit was left",
  payment_unanswered: "the bank has not answered",
  action_required: "the bank asks the shopper",
  confirm_requested: "the shopper approved",
  payment_declined: "the bank said no",
  payment_authorized: "the money is promised",
  payment_captured: "the money is ours",
  placed: "the order stands",
  units_sold: "unit sold",
  units_freed: "nothing is held any more",
  units_restocked: "unit back on the shelf",
  cart_told: "cart closed",
  cancel_requested: "the shopper cancelled",
  void_requested: "the payment is called off",
  payment_voided: "the payment is off",
  authorization_voided: "the promise is off",
  refund_requested: "refund asked for",
  refund_succeeded: "the money went back",
};

/** A name with underscores as words. */
export const words = (name) => name.replaceAll("_", " ");

/** Copies a text; says on the button that it did. */
export const copy = async (button, text) => {
  const label = button.firstChild;
  const before = "Copy";
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Select and copy";
  }
  setTimeout(() => {
    label.textContent = before;
  }, 1600);
};

/** While `work` runs, its button says so and takes no further click. */
export const busy = async (button, work) => {
  if (button.getAttribute("aria-disabled") === "true") return undefined;
  button.setAttribute("aria-disabled", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
};
