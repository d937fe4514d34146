// Contacts with box fields: many fixed boxes whose sides are along the world's axes, of which a grid over x
// and y has lists; see boxfields.py. A geom touches each box as it touches one that stands alone. Part of touch.h.

#define BOX_CELL(cell, column) w.shared[AT_box_cell(cell, column)]
#define BOX(box, column) w.shared[AT_box(box, column)]

// Half of what geom g takes of each of the world's axes; R: its rotation, if it is a solid.
FN void half_extents(const World &w, const Pairs &X, int kind, int g, const F *R, F *half) {
  EACH(j, 3) {
    half[j] = abs_(X.axis(g)[j]) + T(geom, g, 6);
    if (kind <= BOXES_CAPSULE) continue;
    half[j] = ZERO;
    EACH(i, 3) half[j] += T(solid, SOLID_OF[g], 9 + (kind == BOXES_CYLINDER ? i / 2 : i)) * abs_(R[3 * j + i]);
  }
}
// Contacts of geom g in world l with one box, `at` from its centre; `first`: the box is the pair's first geom. CURVED:
// by supporting points, see convex.h.
template <bool CURVED>
FN int touch_box(const World &w, const Pairs &X, int kind, int g, const F *R, bool first, const float *at, const float *size,
                 float margin, int l, Spot *spots) {
  Box box;
  float centre[3], half[3];
  EACH(j, 9) box.R[j] = j % 4 == 0 ? 1.0f : 0.0f;
  EACH(j, 3) {
    centre[j] = element(X.centre(g)[j], l), half[j] = element(X.axis(g)[j], l);
    box.centre[j] = centre[j] + at[j], box.size[j] = size[j];
  }
#if HAS_CONVEX_ON_BOXES
  if constexpr (CURVED) {
    F none[3] = {ZERO, ZERO, ZERO};
    Shape own, other;
    shape_of(w, X, g, none, l, own);
    other = own, other.kind = BOX_SHAPE, other.corner = 0, other.radius = 0;
    for (int j = 0; j < 9; j++) other.R[j] = j % 4 == 0;
    for (int j = 0; j < 3; j++) other.centre[j] = at[j], other.size[j] = size[j];
    int n = convex_contacts(first ? other : own, first ? own : other, margin, spots);
    for (int m = 0; m < n; m++) EACH(j, 3) spots[m].o[j] += centre[j];
    return n;
  }
#endif
  if (kind < BOXES_BOX) return capsule_box(centre, half, element(T(geom, g, 6), l), box, margin, spots);
  Box own;
  box_of_world(w, g, X.centre(g), R, l, own);
  return first ? box_box(box, own, margin, spots) : box_box(own, box, margin, spots);
}
// Where the search for boxes that may touch a geom has come to: cells of a grid row by row, and items of a cell.
struct BoxSearch {
  int c0, r0, c1, r1, c, r, item, end;
};
// On to the next one: `at` from the geom's centre, and its size. False if there are no more. Threads of a warp search
// each for itself and then touch their boxes together, in one loop, see convex.h.
FN bool next_box(const World &w, const Pairs &X, int fixed, int g, int f, const F *half, float bottom, int l,
                 BoxSearch &s, float *at, float *size) {
  for (;;) {
    while (s.item == s.end) {
      if (s.c >= s.c1 && s.r >= s.r1) return false;
      if (s.c >= s.c1) s.c = s.c0, s.r++;
      else s.c++;
      int cell = BOX_FIELD_CELL0[f] + s.r * BOX_FIELD_COLS[f] + s.c;
      if (bottom > BOX_CELL(cell, 1)) continue;
      s.item = (int)BOX_CELL(cell, 0), s.end = (int)BOX_CELL(cell + 1, 0);
    }
    int b = (int)w.shared[AT_box_item(s.item++, 0)], c_b = (int)BOX(b, 6), r_b = (int)BOX(b, 7);
    if (s.c != (c_b > s.c0 ? c_b : s.c0) || s.r != (r_b > s.r0 ? r_b : s.r0)) continue;  // once, not in every cell
    bool apart = false;
    EACH(j, 3) {  // from the tree's origin first: near each other, neither loses digits
      at[j] = BOX(b, j) + element(X.centre(fixed)[j], l) - element(X.centre(g)[j], l), size[j] = BOX(b, 3 + j);
      apart |= !(abs_(at[j]) < (size[j] + element(half[j], l)) * 1.00001f + 1e-6f);
    }
    if (!apart) return true;
  }
}
template <bool CURVED>
STAGE int touch_boxes(const World &w, const Pairs &X, int kind, int g1, int g2, F margin, B near, Touches &t) {
  bool first = BOX_FIELD_OF[g1] >= 0;
  int fixed = first ? g1 : g2, g = first ? g2 : g1, f = BOX_FIELD_OF[fixed], most = 0;
  int cols = BOX_FIELD_COLS[f], rows = BOX_FIELD_ROWS[f];
  F R[9], half[3], from[2], to[2], low;
  if (kind > BOXES_CAPSULE) geom_rotation(w, X, g, R);
  half_extents(w, X, kind, g, R, half);
  EACH(j, 3) half[j] += margin;
  EACH(j, 2) {  // in cells of the grid
    F at = X.centre(g)[j] - X.centre(fixed)[j] - T(box_field, f, j), cells = T(box_field, f, 2);
    F reach = max_(half[j], ZERO);  // a margin may be below zero
    from[j] = (at - reach) * cells, to[j] = (at + reach) * cells;
  }
  low = X.centre(g)[2] - X.centre(fixed)[2] - half[2];
  near = near & (to[0] > 0.0f) & (to[1] > 0.0f) & (from[0] < (float)cols) & (from[1] < (float)rows);
  for (int l = 0; l < WORLDS; l++) {
    if (WORLDS > 1 && !element_on(near, l)) continue;
    BoxSearch s;
    s.c0 = grid_index(element(from[0], l), cols - 1), s.c1 = grid_index(element(to[0], l), cols - 1);
    s.r0 = grid_index(element(from[1], l), rows - 1), s.r1 = grid_index(element(to[1], l), rows - 1);
    s.c = s.c0 - 1, s.r = s.r0, s.item = s.end = 0;
    float at[3], size[3];
    int count = 0;
    while (element_on(near, l) && next_box(w, X, fixed, g, f, half, element(low, l), l, s, at, size)) {
      Spot spots[8];
      int n = touch_box<CURVED>(w, X, kind, g, R, first, at, size, element(margin, l), l, spots);
      if (n && !most) no_touches(t), most = 1;
      for (int m = 0; m < n; m++, count++) if (count < MAXTOUCH) set_spot(t, count, l, spots[m]);
    }
    if (count > MAXTOUCH) {  // noticed by `grow`
      note_overflow(w);
      count = MAXTOUCH;
    }
    most = count > most ? count : most;
  }
  return most;
}
