// Boxes of images without Python, from a file that `sparsevit3d export --format pt2` wrote.
//
//     detect detector.pt2 cameras.txt front.ppm left.ppm ...
//
// cameras.txt holds nine numbers for each image: its camera's matrix, row by row, in pixels of the
// image. Images are binary PPM files. One line is printed for each box: the image, the class, the
// score, then the centre, length, height and width in metres, and the yaw in radians. x points
// right, y down and z forward.

#include <torch/torch.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

using Facts = std::unordered_map<std::string, std::string>;

// What the file says about itself.
struct Expected {
  int64_t images, height, width;
  std::vector<std::string> classes;
};

std::runtime_error fault(const std::string& file, const std::string& what) {
  return std::runtime_error(file + ": " + what);
}

Expected expected_of(const Facts& facts, const std::string& file) {
  for (const char* name : {"torch", "part", "images", "height", "width", "classes"})
    if (!facts.count(name))
      throw fault(file, "is no file that sparsevit3d export wrote. Export the detector anew.");
  if (facts.at("torch") != TORCH_VERSION)
    throw fault(file, "was written by torch " + facts.at("torch") + ", and this program has " +
                          TORCH_VERSION + ". Export the detector anew, or build with that torch.");
  if (facts.at("part") != "boxes")
    throw fault(file, "holds the " + facts.at("part") + ", not boxes. Export with --part boxes.");
  Expected found{std::stoll(facts.at("images")), std::stoll(facts.at("height")),
                 std::stoll(facts.at("width")), {}};
  std::istringstream names(facts.at("classes"));
  for (std::string name; std::getline(names, name, ',');) found.classes.push_back(name);
  return found;
}

// A PPM file as (3, height, width) bytes: blue, green, red.
at::Tensor read_image(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw fault(path, "cannot be read.");
  std::string magic;
  int64_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  file.get();
  if (!file || magic != "P6" || largest != 255 || width < 1 || height < 1)
    throw fault(path, "is no binary PPM of 8 bits. Convert the image: convert in.jpg out.ppm");
  auto image = at::empty({height, width, 3}, at::kByte);
  file.read(reinterpret_cast<char*>(image.data_ptr<uint8_t>()), image.numel());
  if (file.gcount() != image.numel()) throw fault(path, "was cut off. Convert the image anew.");
  return image.permute({2, 0, 1}).flip(0).contiguous();
}

// Scale an image until it covers the wanted size, cut the rest off, and move its camera along.
at::Tensor fitted(const at::Tensor& image, at::Tensor camera, const Expected& wanted) {
  const double height = image.size(1), width = image.size(2);
  if (height == wanted.height && width == wanted.width) return image;
  const double scale = std::max(wanted.height / height, wanted.width / width);
  const int64_t rows = std::max<int64_t>(wanted.height, std::llround(height * scale));
  const int64_t columns = std::max<int64_t>(wanted.width, std::llround(width * scale));
  const int64_t top = rows - wanted.height, left = (columns - wanted.width) / 2;
  auto scaled = at::_upsample_bilinear2d_aa(image.unsqueeze(0).to(at::kFloat), {rows, columns},
                                            /*align_corners=*/false);
  camera[0] *= columns / width;
  camera[1] *= rows / height;
  camera[0][2] -= left;
  camera[1][2] -= top;
  using at::indexing::Slice;
  return scaled.round().clamp(0, 255).to(at::kByte)[0].index(
      {Slice(), Slice(top, top + wanted.height), Slice(left, left + wanted.width)});
}

at::Tensor read_cameras(const std::string& path, int64_t count) {
  std::ifstream file(path);
  if (!file) throw fault(path, "cannot be read.");
  std::vector<float> numbers;
  for (float number; file >> number;) numbers.push_back(number);
  if (static_cast<int64_t>(numbers.size()) != 9 * count)
    throw fault(path, "holds " + std::to_string(numbers.size()) + " numbers, and " +
                          std::to_string(count) + " cameras need " + std::to_string(9 * count) +
                          ".");
  return at::tensor(numbers).view({count, 3, 3});
}

void print(const std::vector<at::Tensor>& found, const std::vector<std::string>& names,
           const std::vector<std::string>& classes) {
  const auto boxes = found[0].contiguous(), scores = found[1].contiguous();
  const auto labels = found[2].to(at::kLong).contiguous();
  for (int64_t image = 0; image < scores.size(0); ++image)
    for (int64_t place = 0; place < scores.size(1); ++place) {
      const float score = scores[image][place].item<float>();
      if (score <= 0) break;  // the best come first
      std::cout << names[image] << ' ' << classes.at(labels[image][place].item<int64_t>()) << ' '
                << score;
      for (int64_t value = 0; value < 7; ++value)
        std::cout << ' ' << boxes[image][place][value].item<float>();
      std::cout << '\n';
    }
}

int main(int count, char** words) {
  if (count < 4) {
    std::cerr << "usage: detect DETECTOR.pt2 CAMERAS.txt IMAGE.ppm ...\n";
    return 2;
  }
  try {
    const std::string file = words[1];
    const std::vector<std::string> names(words + 3, words + count);
    if (!std::ifstream(file)) throw fault(file, "cannot be read.");
    c10::InferenceMode guard;
    torch::inductor::AOTIModelPackageLoader loader(file);
    const auto wanted = expected_of(loader.get_metadata(), file);
    if (static_cast<int64_t>(names.size()) != wanted.images)
      throw fault(file, "takes " + std::to_string(wanted.images) + " images at a time, not " +
                            std::to_string(names.size()) +
                            ". Name so many, or export with --images.");
    auto cameras = read_cameras(words[2], wanted.images);
    std::vector<at::Tensor> images;
    for (size_t place = 0; place < names.size(); ++place)
      images.push_back(fitted(read_image(names[place]), cameras[place], wanted));
    print(loader.run({at::stack(images), cameras}), names, wanted.classes);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
