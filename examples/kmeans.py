"""k-means: the middles of K clusters of points.

    gristmill run examples/kmeans.py POINTS K
    python examples/kmeans.py POINTS K

POINTS has a point in each line: its coordinates, with spaces between them. For each cluster a line is printed: how many
points it has, a tab, and its middle. The points are read and parsed once; each round takes them from the cache.
"""

import sys
from math import dist

import gristmill as gm

ROUNDS = 50


def point(line):
    return tuple(map(float, line.split()))


def nearest(point, centers):
    """The number of the center that is nearest to a point."""
    return min(range(len(centers)), key=lambda number: dist(point, centers[number]))


def add(one, other):
    """The sum of the points, and how many they are, of two parts of a cluster."""
    (point, count), (more, another) = one, other
    return tuple(a + b for a, b in zip(point, more, strict=True)), count + another


def middle(total):
    """How many points a cluster has, and their middle."""
    point, count = total
    return count, tuple(each / count for each in point)


def far_apart(points, k):
    """Points to begin with: each is the farthest from those before it."""
    centers = [points.first()]
    while len(centers) < k:
        centers.append(points.max(key=lambda point: min(dist(point, center) for center in centers)))
    return centers


def clusters_around(points, centers):
    """How many points are nearest to each center, and their middle, by the number of the center."""
    assigned = points.map(lambda point: (nearest(point, centers), (point, 1)))
    return dict(assigned.reduce_by_key(add).map_values(middle).collect())


def kmeans(points, k):
    """How many points each cluster has, and its middle, by the number of the cluster."""
    centers = far_apart(points, k)
    for _ in range(ROUNDS):
        clusters = clusters_around(points, centers)
        moved = [clusters[number][1] if number in clusters else center for number, center in enumerate(centers)]
        if moved == centers:
            break
        centers = moved
    return clusters


def main(path, k):
    points = gm.read_text(path).map(point).cache()
    for _, (count, center) in sorted(kmeans(points, int(k)).items()):
        print(f"{count}\t{' '.join(f'{each:.4f}' for each in center)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
